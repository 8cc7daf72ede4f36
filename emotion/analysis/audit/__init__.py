"""Gold labels that look wrong, by probabilities of models that have not seen the row.

`ranking` finds and ranks them with cleanlab, `noise` estimates how many there are of each label, `report` writes.
"""
