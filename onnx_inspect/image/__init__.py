"""Pictures as arrays, and the only user of OpenCV: read, write, resize, inpaint, colour, blend, letter.

A picture is uint8 of shape (H, W, 3) in RGB everywhere outside `codec`.
"""

from .codec import MAX_PIXELS as MAX_PIXELS
from .codec import decode as decode
from .codec import encode_jpeg as encode_jpeg
from .codec import encode_mp4 as encode_mp4
from .codec import encode_png as encode_png
from .codec import named as named
from .codec import read as read
from .codec import remarks as remarks
from .codec import write as write
from .pixels import Colormap as Colormap
from .pixels import Edge as Edge
from .pixels import Interpolation as Interpolation
from .pixels import Picture as Picture
from .pixels import blend as blend
from .pixels import colormap as colormap
from .pixels import escaped as escaped
from .pixels import inpaint as inpaint
from .pixels import resize as resize
from .pixels import single_threaded as single_threaded
from .pixels import text as text
from .pixels import text_size as text_size
from .pixels import to_grey as to_grey
from .pixels import warp as warp
