"""Starting workers on several machines and watching over them: no MXNet here, so that nothing of it can block the watch.

Each machine runs a member (`vargfacenet.launch.member`), which starts a worker and its share of MXNet's parameter server and
looks after them; members tell one another how their processes fare through a hub at worker 0.
"""
