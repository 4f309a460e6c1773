"""The sandbox's service. It runs inside the enclosure (container or bubblewrap), so it needs only this folder of MathQuarry.

It has three kinds of processes, each with less information than the one before:
1. `server` accepts connections on a Unix socket, one per dialogue, enforces time limits and forwards programs;
2. `forkserver` has imported the libraries for programs and forks a worker when the server asks for one. It never sees a program, so a
   worker's memory contains no other dialogue's program;
3. `worker`, confined by `confine`, runs the programs of one dialogue.

A worker's output is untrusted: JSON frames of limited length, read with a deadline and checked.
"""
