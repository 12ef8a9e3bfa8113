"""What sessions tell those above them, which they do not import. All are sent inside the transaction of the change."""

from django.dispatch import Signal

# Arguments: session_id.
session_running = Signal()
# It takes no more runs, but its running ones go on. Arguments: session_id.
session_closing = Signal()
# Arguments: session_id, reason.
session_ended = Signal()
# Its files and outputs are to be erased. Arguments: session_id.
session_purged = Signal()
