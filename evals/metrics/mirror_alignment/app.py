"""The metric's page as a Space. `evaluate`'s own widget needs a gradio that is no longer there."""

import json

import evaluate
import gradio as gr

metric = evaluate.load("mirror_alignment.py")


def compute(predictions: str, references: str, users: str) -> dict[str, float | int | None]:
    """The scores of JSON lists; `users` may be empty."""
    given = {"users": json.loads(users)} if users.strip() else {}
    return metric.compute(predictions=json.loads(predictions), references=json.loads(references), **given)


page = gr.Interface(
    fn=compute,
    inputs=[
        gr.Textbox("[[0.2, 0.5, 0.3], [0.9, 0.1]]", label="P(option) per scene"),
        gr.Textbox("[1, 1]", label="Index of the chosen option per scene"),
        gr.Textbox("", label="User per scene (optional)"),
    ],
    outputs=gr.JSON(label="Scores"),
    title="Mirror alignment",
    description=metric.info.description,
)

if __name__ == "__main__":
    page.launch()
