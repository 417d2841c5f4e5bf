"""A Kubernetes cluster on one machine, without containers: what `finetune local` runs and the tests stand on.

Reading order: state (folders), processes (children that are never confused), ports, certificates, binaries (with build
and download), components (command lines), control_plane (up and down), kubectl, foreground, node/ (runs Pods).
This layer is the machine: its `def` acts, too, wherever its docstring is a verb.
"""
