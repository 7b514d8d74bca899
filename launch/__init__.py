"""Start workers on several machines and supervise them. Nothing here imports MXNet, which could block the supervision.

Each machine runs a member (`vargfacenet.launch.member`): it starts a worker and a part of MXNet's parameter server, and
supervises both. Members report to a coordinator in the member of worker 0.
"""
