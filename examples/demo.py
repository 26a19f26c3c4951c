"""A page in the browser for colouring one photograph at a time.

    pip install gradio
    python examples/demo.py [--port 7860]

The page is served to this machine only, and photographs go nowhere else.
"""

import argparse
from typing import Any

from PIL import Image

import bwpipe

QUALITIES = ("fast", "normal", "best")


def colour(photograph: Image.Image | None, vividness: float, saturation: float, quality: str) -> Image.Image | None:
    """A photograph in colour; None if there is none yet."""
    if photograph is None:
        return None
    chosen: Any = quality
    return bwpipe.colorize(photograph, vividness=vividness, saturation=saturation, quality=chosen, recolour=True)


def page() -> Any:
    """The page, as Gradio's application."""
    import gradio

    return gradio.Interface(
        fn=colour,
        inputs=[
            gradio.Image(type="pil", label="Photograph"),
            gradio.Slider(0, 1, value=0.5, step=0.05, label="Vividness: from safe to lively"),
            gradio.Slider(0, 2, value=1, step=0.05, label="Saturation"),
            gradio.Radio(list(QUALITIES), value="normal", label="Quality"),
        ],
        outputs=gradio.Image(type="pil", format="png", label="In colour"),
        title="bwpipe",
        description="Only colour is added: luma stays as it is. It is a guess, not the truth.",
        flagging_mode="never",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=7860)
    page().launch(server_name="127.0.0.1", server_port=parser.parse_args().port)
