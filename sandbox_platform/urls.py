"""The whole API on one screen."""

from django.contrib import admin
from django.urls import path, register_converter
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerView

from executions_app import views as executions
from runtime import views as containers
from sandbox_platform import health
from sandbox_platform.converters import FileName
from sessions_app import file_views as files
from sessions_app import views as sessions
from sessions_app.link_views import link
from templates_app import views as templates

register_converter(FileName, "filename")

V1 = "api/v1"
SESSION = f"{V1}/sessions/<str:session_id>"
EXECUTION = f"{V1}/executions/<str:execution_id>"
CONTAINER = f"{V1}/containers/<str:container_id>"

urlpatterns = [
    path(f"{V1}/sessions", sessions.SessionsView.as_view()),
    path(SESSION, sessions.SessionView.as_view()),
    path(f"{SESSION}/execute", executions.ExecuteView.as_view()),
    path(f"{SESSION}/executions", executions.SessionExecutionsView.as_view()),
    path(f"{SESSION}/files", files.FilesView.as_view()),
    path(f"{SESSION}/files/upload", files.UploadView.as_view(), {"name": "upload"}),
    path(f"{SESSION}/files/upload-url", files.UploadUrlView.as_view(), {"name": "upload-url"}),
    path(f"{SESSION}/files/upload-complete", files.UploadCompleteView.as_view(), {"name": "upload-complete"}),
    path(f"{SESSION}/files/<filename:name>", files.FileView.as_view()),
    path(EXECUTION, executions.ExecutionView.as_view()),
    path(f"{EXECUTION}/status", executions.StatusView.as_view()),
    path(f"{EXECUTION}/result", executions.ResultView.as_view()),
    path(f"{EXECUTION}/events", executions.EventsView.as_view()),
    path(f"{EXECUTION}/cancel", executions.CancelView.as_view()),
    path(f"{V1}/templates", templates.TemplatesView.as_view()),
    path(f"{V1}/templates/<str:template_id>", templates.TemplateView.as_view()),
    path(f"{V1}/containers", containers.ContainersView.as_view()),
    path(CONTAINER, containers.ContainerView.as_view()),
    path(f"{CONTAINER}/logs", containers.ContainerLogsView.as_view()),
    path(f"{CONTAINER}/stats", containers.ContainerStatsView.as_view()),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("api/redoc", SpectacularRedocView.as_view(url_name="schema"), name="redoc"),
    path("links/<str:token>", link),
    path("health", health.health),
    path("ready", health.ready),
    path("metrics", health.prometheus),
    path("admin/", admin.site.urls),
]

handler400 = "sandbox_platform.errors.bad_request"
handler404 = "sandbox_platform.errors.not_found"
handler500 = "sandbox_platform.errors.server_error"
