"""The built-in face set: people drawn from parameters, for trying the code out where no face set is at hand."""

from vargfacenet.data.synth.faces import contact_sheet, draw_faces, draw_pairs

__all__ = ["contact_sheet", "draw_faces", "draw_pairs"]
