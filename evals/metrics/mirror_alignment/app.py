"""The metric's page as a Space: `evaluate`'s own widget."""

import evaluate
from evaluate.utils import launch_gradio_widget

launch_gradio_widget(evaluate.load("mirror_alignment.py"))
