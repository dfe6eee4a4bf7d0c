"""`python dev.py gpu`: every figure that needs a GPU, measured by one command on a bare machine.

Read rows.py (what is measured, most valuable first), runner.py (a child process for each row, and its budget),
report.py (the JSON file), machine_setup.py (ComfyUI and the packages that a bare machine lacks), child.py
(what runs inside a row's process). The subjects: machine.py, kernels.py, attention.py, and
sampling.py on the random networks.py, with timing.py.

Nothing here but the subjects imports anything beside the standard library, so that a machine without torch still
writes down what it lacks.
"""
