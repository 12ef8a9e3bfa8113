"""What others may want to know of templates."""

from django.dispatch import Signal

# Sent with `template_id` and `runtime_type` once a template can be started on that kind of runtime.
image_ready = Signal()
