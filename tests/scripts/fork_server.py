"""Imports Keras on TensorFlow once, and forks a process for each script that it is to run: importing takes longer than most.

Of TensorFlow nothing but the import has happened, so that a script can still choose its devices.

Each line of the input is JSON, a list of scripts that run at the same time: {"command": [path, argument, ...],
"environment": {...}, "folder": where it runs, "output": files for what it prints and for its errors}. The answer to each
line is a line with the list of their exit codes.
"""

import json
import os
import runpy
import sys

import keras  # noqa: F401


def become(job: dict) -> None:
    """Makes this process that of a script, which ends as if Python had been started with it."""
    for number, path in enumerate(job["output"], start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    sys.argv = job["command"]
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    for line in sys.stdin:
        children = []
        for job in json.loads(line):
            children.append(os.fork())
            if not children[-1]:
                become(job)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)
