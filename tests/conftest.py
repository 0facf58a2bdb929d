"""The same random cases in every run, and no time limit for one: the first of a kind compiles its kernel."""

import hypothesis

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")
