"""The sandbox's service: it runs inside the enclosure (container or bubblewrap), so it needs nothing of MathQuarry but this folder.

Three kinds of processes, each knowing less than the one before:
1. `server` accepts connections on a Unix socket, one a dialogue, keeps the time limits and passes programs on;
2. `forkserver` has imported what programs need and forks a worker when the server asks for one. It never sees a program, so a worker
   finds nobody else's in its memory;
3. `worker`, confined by `confine`, runs the programs of one dialogue.

Everything a worker says is data from an enemy: frames of JSON with a limited length, read with a deadline and checked.
"""
