"""Images that cannot be restored, and odd ones that are."""

import numpy as np
from bad_cases import (
    BMP,
    DEEP,
    FLOATS,
    HDF5,
    JPG,
    MOST_INT,
    NOT_FINITE,
    PNG,
    RAMP,
    SIGNED,
    TIF,
    TWICE,
    ZIP,
    Case,
    image,
    odd_image,
)
from bad_files import (
    GREY,
    array,
    both,
    changed,
    directory,
    edited,
    group,
    link,
    nothing,
    pages,
    picture,
    pipe,
    put,
    tiff,
    wide,
)

IMAGES: dict[str, Case] = {
    # files that are no images, or damaged
    "an empty png": image("a.png", put("a.png", b""), "a.png is empty (0 bytes)"),
    "an empty tif": image("a.tif", put("a.tif", b""), "a.tif is empty (0 bytes)"),
    "an empty mrc": image("a.mrc", put("a.mrc", b""), "a.mrc is empty (0 bytes)"),
    "text as png": image(
        "a.png", put("a.png", b"hello"), "its beginning is that of no PNG, JPEG or BMP"
    ),
    "text as tif": image("a.tif", put("a.tif", b"hello there"), "a.tif cannot be read as an image"),
    "text as mrc": image("a.mrc", put("a.mrc", b"hello"), "a.mrc cannot be read as an image"),
    "noise as dm3": image(
        "a.dm3", put("a.dm3", GREY.tobytes()), "a.dm3 cannot be read as an image"
    ),
    "noise as dm4": image(
        "a.dm4", put("a.dm4", GREY.tobytes()), "a.dm4 cannot be read as an image"
    ),
    "noise as ser": image(
        "a.ser", put("a.ser", GREY.tobytes()), "a.ser cannot be read as an image"
    ),
    "noise as emd": image(
        "a.emd", put("a.emd", GREY.tobytes()), "a.emd cannot be read as an image"
    ),
    "noise as bcf": image(
        "a.bcf", put("a.bcf", GREY.tobytes()), "a.bcf cannot be read as an image"
    ),
    "half a png": image("a.png", put("a.png", PNG[:120]), "damaged or cut short"),
    "a png without its tail": image("a.png", put("a.png", PNG[:-12]), "damaged or cut short"),
    "only the beginning of a png": image("a.png", put("a.png", PNG[:20]), "damaged or cut short"),
    "a png with a false byte": image(
        "a.png", put("a.png", changed("png", 80, 7)), "damaged or cut short"
    ),
    "half a jpg": image("a.jpg", put("a.jpg", JPG[:-90]), "damaged or cut short"),
    "half a bmp": image("a.bmp", put("a.bmp", BMP[:-90]), "damaged or cut short"),
    "half a tif": image("a.tif", put("a.tif", TIF[:-90]), "damaged or cut short"),
    "a bmp that states 10^8 columns": image(
        "a.bmp", put("a.bmp", wide("bmp", 18, 10**8)), "cannot hold"
    ),
    "a tif of no pages": image("a.tif", put("a.tif", b"II*\0\xff\xff\xff\x7f"), "holds 0 images"),
    # files of another kind
    "a text file": image("a.txt", put("a.txt", b"hello"), "is not an image of a known kind"),
    "no ending": image("a", put("a", PNG), "is not an image of a known kind"),
    "nothing but an ending": image(".png", put(".png", PNG), "is not an image of a known kind"),
    "a directory as png": image("a.png", directory("a.png"), "it is a directory, not a file"),
    "a directory as tif": image("a.tif", directory("a.tif"), "it is a directory, not a file"),
    "a pipe as png": image("a.png", pipe("a.png"), "it is a pipe or a device, not a file"),
    "a pipe as tif": image("a.tif", pipe("a.tif"), "it is a pipe or a device, not a file"),
    "a pipe as mrc": image("a.mrc", pipe("a.mrc"), "it is a pipe or a device, not a file"),
    "a pipe as zarr": image("a.zarr", pipe("a.zarr"), "cannot be read as a Zarr folder"),
    "a device": image("a.png", link("a.png", "/dev/zero"), "it is a pipe or a device, not a file"),
    "a link to nowhere": image("a.png", link("a.png", "b.png"), "No such file"),
    "a link to itself": image("a.png", link("a.png", "a.png"), "a.png cannot be read"),
    "a missing png": image("a.png", nothing, "No such file"),
    "a missing tif": image("a.tif", nothing, "No such file"),
    "a missing zarr": image("a.zarr", nothing, "No such file"),
    "a name that is too long": image(f"{'a' * 300}.png", nothing, "File name too long"),
    "a jpg as tif": image(
        "a.tif", put("a.tif", JPG), "not what its name says but a JPEG image: give it a name"
    ),
    "a tif as png": image(
        "a.png", put("a.png", TIF), "but a TIFF image: give it a name that ends in .tif"
    ),
    "a png as mrc": image(
        "a.mrc", put("a.mrc", PNG), "but a PNG image: give it a name that ends in .png"
    ),
    "a gif as png": image(
        "a.png", picture("a.png", kind="gif"), "but a GIF image: that is not read here"
    ),
    "a pdf as png": image("a.png", put("a.png", b"%PDF-1.7 x"), "but a PDF document"),
    "hdf5 as tif": image("a.tif", put("a.tif", HDF5), "but a HDF5 file"),
    "a zip as tif": image("a.tif", put("a.tif", ZIP), "but a zip archive"),
    # images that are not one grey image of finite values
    "NaN": image("a.tif", tiff("a.tif", NOT_FINITE), "holds NaN or infinite values"),
    "infinity": image(
        "a.tif",
        tiff("a.tif", np.full((12, 16), np.inf, np.float32)),
        "holds NaN or infinite values",
    ),
    "complex": image("a.tif", tiff("a.tif", GREY.astype(np.complex64)), "holds complex64 values"),
    "a stack": image(
        "a.tif", pages("a.tif", GREY, GREY, GREY), "holds 3 images (16 x 12, 16 x 12, 16 x 12)"
    ),
    "two pages": image("a.tif", pages("a.tif", GREY, GREY[:5]), "holds 2 images (16 x 12, 16 x 5)"),
    "floats, 0 is white": image(
        "a.tif", tiff("a.tif", FLOATS, photometric="miniswhite"), "of which 0 is white"
    ),
    "signed, 0 is white": image(
        "a.tif",
        tiff("a.tif", SIGNED.astype(np.int16), photometric="miniswhite"),
        "of which 0 is white",
    ),
    "two pages, no choice": image(
        "a.tif",
        pages("a.tif", GREY, GREY),
        "choose one by its number or name (--image on the command line)",
    ),
    "Lab colours": image(
        "a.tif",
        tiff("a.tif", np.stack([GREY] * 3, axis=-1), photometric="cielab"),
        "its colours are CIELAB: save it as grey or RGB first",
    ),
    # OME-Zarr
    "an empty zarr": image("a.ome.zarr", directory("a.ome.zarr"), "holds no Zarr image"),
    "a file as zarr": image("a.zarr", put("a.zarr", PNG), "cannot be read as a Zarr folder"),
    "a zarr without image": image("a.zarr", group("a.zarr"), "holds no OME-Zarr image"),
    "odd multiscales": image(
        "a.zarr", group("a.zarr", ome={"multiscales": 3}), "cannot be read as an image"
    ),
    "a zarr without levels": image(
        "a.zarr", group("a.zarr", ome={"multiscales": [{"datasets": []}]}), "damaged"
    ),
    "a lost level": image(
        "a.zarr", group("a.zarr", ome={"multiscales": [{"datasets": [{"path": "0"}]}]}), "damaged"
    ),
    "a stack in zarr": image("a.zarr", array("a.zarr", TWICE), "one grey image is wanted"),
    "a line in zarr": image("a.zarr", array("a.zarr", GREY[0]), "one grey image is wanted"),
    "NaN in zarr": image("a.zarr", array("a.zarr", NOT_FINITE), "holds NaN or infinite values"),
    "complex zarr": image("a.zarr", array("a.zarr", GREY * 1j), "one grey image is wanted"),
    "a zarr that states 10^18 pixels": image(
        "a.zarr", edited("a.zarr", shape=[10**9, 10**9]), "cannot hold"
    ),
    "a zarr of no pixels": image("a.zarr", edited("a.zarr", shape=[0, 16]), "holds no pixels"),
    "a zarr of an odd type": image(
        "a.zarr", edited("a.zarr", data_type="uint9"), "cannot be read as an image"
    ),
    "damaged zarr": image(
        "a.zarr", both(directory("a.zarr"), put("a.zarr/zarr.json", b"{")), "cannot be read as"
    ),
    "nested zarr": image(
        "a.zarr", both(directory("a.zarr"), put("a.zarr/zarr.json", DEEP.encode())), "cannot be"
    ),
    # odd images that are restored
    "float32, all 1e20": odd_image("a.tif", tiff("a.tif", np.full((12, 16), 1e20, np.float32))),
    "the whole range of float64": odd_image("a.tif", tiff("a.tif", RAMP)),
    "the greatest float64": odd_image(
        "a.tif", tiff("a.tif", np.full((12, 16), np.finfo(np.float64).max))
    ),
    "the smallest floats": odd_image("a.tif", tiff("a.tif", GREY * -5e-324)),
    "the whole range in zarr": odd_image("a.zarr", array("a.zarr", RAMP)),
    "the greatest int32": odd_image("a.tif", tiff("a.tif", MOST_INT)),
    "uint64": odd_image("a.tif", tiff("a.tif", GREY.astype(np.uint64) << 56)),
    "black": odd_image("a.png", picture("a.png", GREY * 0)),
    "one pixel": odd_image("a.png", picture("a.png", GREY[:1, :1])),
    "one row": odd_image("a.tif", tiff("a.tif", GREY[:1])),
    "two values": odd_image("a.tif", tiff("a.tif", GREY > 99)),
    "a thumbnail": odd_image("a.tif", pages("a.tif", GREY, GREY[::4, ::4])),
    "two pages, one raw": odd_image("a.tif", pages("a.tif", np.stack([GREY] * 3, axis=-1), GREY)),
    "an upper-case ending": odd_image("a.PNG", picture("a.PNG", kind="png")),
    "a bmp as png": odd_image("a.png", put("a.png", BMP)),
    "an umlaut": odd_image("Größe µ.png", picture("Größe µ.png")),
    "a name that is no UTF-8": odd_image("a\udce9.png", picture("a\udce9.png")),
    "a name like markup": odd_image("[red] :smile: [b.png", picture("[red] :smile: [b.png")),
    "control characters": odd_image("a\x1b[31m\n.png", picture("a\x1b[31m\n.png")),
}
