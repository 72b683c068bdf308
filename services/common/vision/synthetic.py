"""How a picture says that it was made by a model: XMP with IPTC's digital source type, inside the PNG.

https://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia
"""

from __future__ import annotations

import io
from xml.sax.saxutils import escape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


def xmp(prompt: str, seed: int, *, source_type: str = SOURCE_TYPE) -> str:
    """An XMP packet (ISO 16684-1) with source type, prompt and seed."""
    said = escape(f"Synthetic picture, made by a model. Not evidence. Prompt: {prompt} Seed: {seed}")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>"
        "<xmp:CreatorTool>Claimsight generator</xmp:CreatorTool>"
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{said}</rdf:li></rdf:Alt></dc:description>'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def png(image: Image.Image, *, prompt: str, seed: int, source_type: str = SOURCE_TYPE) -> bytes:
    """The picture as PNG with that packet."""
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp(prompt, seed, source_type=source_type))
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=info, compress_level=4)
    return file.getvalue()
