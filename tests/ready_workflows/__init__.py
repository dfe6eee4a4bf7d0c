"""The bundled workflows for real models: graph writes what the editor would save, files are the models with their
links, stories what is filmed, build the graphs, stand_ins tiny files of the same names for the tests.

    python -m tests.ready_workflows      writes workflows/<name>.json and .jpg anew
"""
