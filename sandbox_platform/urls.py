from django.urls import path
from sandbox_platform import health
urlpatterns = [path("health", health.health)]
