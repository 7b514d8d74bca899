"""Built-in face set: faces drawn from random parameters, to try the code out without a data set."""

from vargfacenet.data.synth.faces import contact_sheet, draw_faces, draw_pairs

__all__ = ["contact_sheet", "draw_faces", "draw_pairs"]
