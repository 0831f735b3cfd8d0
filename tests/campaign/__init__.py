"""The reliability campaign: hostile input, kills and long runs by the thousand, each case repeatable from its seed.

`make campaign` runs all of it, and `python -m posert.tests.campaign --help` says how to run a part or one case.
A part (`parts/`) makes a case from a random generator and runs it. The frame holds every case to one rule: it ends with
the result of the undisturbed run, or with a `PosertError` that names the file. All else is a defect.
"""
