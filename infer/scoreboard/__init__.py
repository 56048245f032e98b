"""Every method on every posterior with known draws, and whether the verdict tells.

`python -m infer.scoreboard` is the command; nothing here is loaded by `import infer`.
"""
