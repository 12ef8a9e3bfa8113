"""What the runtime tells those above it, which it does not import."""

from django.dispatch import Signal

# A container is found dead. Arguments: container (its row, now `exited` or `lost`), oom_killed (bool), node_lost (bool).
container_died = Signal()
