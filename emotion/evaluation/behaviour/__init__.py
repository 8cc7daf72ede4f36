"""Behaviour checks: short texts that say what a model should answer, such as a lower probability of joy for "not happy".

Reading a suite, running it on probabilities, pass rates with intervals, gaps between identity terms, and the report. Nothing here runs a
model. The types of check are those of CheckList.

Source: Ribeiro, Wu, Guestrin and Singh 2020, "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList".
"""
