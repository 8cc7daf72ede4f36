"""How common each label is in groups of scored rows, with intervals, and which differences between groups are more than chance.

`histograms` holds what is kept of the rows, `estimators` estimates, `correction` holds what a model's validation rows say about its errors.
`intervals` resamples, `changes` tests, `signs` finds texts that differ from validation. `grouping` and `reading` read the rows; `figures`
draws, and `report` writes.
"""
