"""What the runtime tells those above it, which it does not import."""

from django.dispatch import Signal

# A container is found dead. Arguments: container (its row, now `exited` or `lost`), oom_killed (bool), node_lost (bool).
container_died = Signal()
# An operator wants a container gone. Arguments: container, manner (operators.Manner), who (in words). Whoever uses it ends that and
# answers whether there was anything left to end; None from those that do not use it.
container_unwanted = Signal()
