"""Tile sizes by reasoning, as data: the first row that fits a launch serves it.

Chosen so that no kernel exceeds shared memory from sm_80 on, and that none spills registers on
sm_80, sm_90 and sm_100; `tests/kernels/test_compiled.py` builds them. What was measured, and stands
in `tiles.json`, takes their place.

    kernel    "a/b": either; "phi_x" looks for a row of its own, then for one of x
    products  of `core.precision.multiplication`; "*": any
    channels  "<64", "64", "128" or "128+", of which more are summed over in slices; "128*": both
    maps      "aligned": read 16 bytes at a time; "*": any
    GPU       "sm<90", "sm90", "sm>=90", "sm>=100"; "small": a program has 99 KB, not 163 and more

The tile: A channels of the result; K of the other side, summed over at a time, or columns of an
outer product; S positions; warps; stages; programs a multiprocessor. "C" stands for the channels of
the feature map, as a power of two from 16 to 128.
"""

TABLE = """
    kernel               products  channels  maps     GPU     |   A   K   S  warps  stages  programs

    statistics           *         <64       aligned  *       |   C   C  64      4       3         4
    statistics           *         <64       *        *       |   C   C  64      4       2         4
    statistics           *         64        aligned  *       |   C   C  64      8       3         2
    statistics           *         64        *        *       |   C   C  64      8       2         2
    statistics           *         128*      aligned  sm<90   |   C   C  32      8       2         2
    statistics           *         128*      aligned  *       |   C   C  32      8       3         2
    statistics           *         128*      *        *       |   C   C  32      8       2         2

    outer                16-bit    <64       aligned  *       |   C   C  64      4       3         4
    outer                16-bit    <64       *        *       |   C   C  32      4       3         4
    outer                16-bit    64        aligned  *       |   C   C  64      8       3         2
    outer                16-bit    64        *        *       |   C   C  32      8       3         2
    phi_outer            16-bit    128*      aligned  sm90    |   C   C  64      8       3         1
    phi_outer            16-bit    128*      aligned  *       |   C   C  32      8       3         1
    phi_outer            16-bit    128*      *        sm90    |   C   C  32      8       3         1
    phi_outer            16-bit    128*      *        *       |   C   C  16      8       3         1
    outer                16-bit    128*      aligned  *       |   C   C  64      8       3         1
    outer                16-bit    128*      *        *       |   C   C  32      8       3         1
    outer                tf32      <64       *        sm<90   |   C   C  64      4       1         2
    outer                tf32      <64       *        *       |   C   C  64      4       2         2
    outer                tf32      64        *        sm<90   |   C   C  32      8       1         2
    outer                tf32      64        *        sm90    |   C   C  32      8       2         2
    phi_outer            tf32      64        *        *       |   C   C  32      8       2         2
    outer                tf32      64        *        *       |   C   C  16      8       2         4
    outer                tf32      128*      *        small   |   C   C  16      8       2         1
    phi_outer            tf32      128*      *        sm<90   |   C   C  16      8       1         1
    phi_outer            tf32      128*      *        sm>=100 |   C   C  16      8       2         1
    outer                tf32      128*      *        sm<90   |   C   C  32      8       1         1
    outer                tf32      128*      *        *       |   C   C  32      8       2         1
    outer                bf16x6    <64       *        *       |   C   C  32      4       2         2
    outer                bf16x6    64        *        sm<90   |   C   C  32      8       2         1
    outer                bf16x6    64        *        *       |   C   C  32      4       2         2
    outer                bf16x6    128*      *        small   |  64  64  32      8       2         1
    phi_outer            bf16x6    128*      aligned  sm90    |   C   C  16      8       2         1
    outer                bf16x6    128*      aligned  sm90    |   C   C  32      8       2         1
    outer                bf16x6    128*      *        sm>=100 |  64  64  32      4       2         2
    outer                bf16x6    *         *        *       |   C   C  16      8       2         1
    outer                bf16x3    <64       *        *       |   C   C  64      4       2         2
    outer                bf16x3    64        *        sm<90   |   C   C  32      8       2         1
    outer                bf16x3    64        *        *       |   C   C  32      4       2         2
    outer                bf16x3    128*      *        small   |  64  64  32      4       2         1
    phi_outer            bf16x3    128*      aligned  sm>=90  |   C   C  16      8       2         1
    outer                bf16x3    128*      aligned  sm>=90  |   C   C  32      8       2         1
    outer                bf16x3    *         *        *       |   C   C  16      8       2         1
    outer                ieee      <64       *        *       |   C   C  32      4       1         4
    outer                ieee      128*      *        *       |   C   C  16      8       1         1
    outer                ieee      *         *        *       |   C   C  16      8       2         1

    apply                16-bit    <64       aligned  *       |   C   C 128      4       3         4
    apply                16-bit    <64       *        *       |   C   C  64      4       3         2
    apply                16-bit    64        aligned  *       |   C   C  64      8       3         2
    apply                16-bit    64        *        *       |   C   C  32      8       3         1
    apply                16-bit    128       aligned  sm<90   |   C  32  32      8       2         2
    apply                16-bit    128       aligned  sm90    |   C   C  64      8       2         2
    apply                16-bit    128       aligned  *       |   C   C  32      8       3         2
    apply                16-bit    128       *        sm90    |   C   C  32      8       2         1
    apply                16-bit    128       *        sm>=100 |   C   C  32      8       3         1
    apply                16-bit    128+      aligned  sm90    |   C  32  64      8       2         1
    apply                16-bit    128+      *        sm>=100 |   C  32  32      8       3         1
    apply                16-bit    128*      *        *       |   C  32  32      8       2         1
    apply                tf32      <64       *        sm<90   |   C   C  64      4       1         4
    apply                tf32      <64       *        *       |   C   C  64      4       2         4
    apply                tf32      64        *        sm<90   |   C   C  32      8       1         2
    apply                tf32      64        *        *       |   C   C  32      8       2         2
    apply                tf32      128*      *        small   |   C  32  32      8       2         1
    apply                tf32      128       *        sm<90   |   C   C  32      8       1         1
    apply                tf32      128       *        *       |   C   C  32      8       2         1
    apply                tf32      128+      *        sm<90   |   C  32  32      8       1         1
    apply                tf32      128+      *        *       |   C  32  32      8       2         1
    apply                bf16x6    <64       *        *       |   C   C  64      4       2         2
    apply                bf16x6    64        *        sm<90   |   C   C  16      4       2         2
    apply                bf16x6    64        *        *       |   C   C  32      4       2         2
    apply                bf16x6    128       *        sm<90   |   C  32  32      8       2         1
    apply                bf16x6    128       *        sm90    |   C   C  32      8       2         1
    apply                bf16x6    *         *        *       |   C  32  32      8       2         1
    apply                bf16x3    <64       *        *       |   C   C  64      4       2         2
    apply                bf16x3    64        *        sm<90   |   C   C  16      4       2         2
    apply                bf16x3    64        *        *       |   C   C  32      4       2         2
    apply                bf16x3    128       *        sm<90   |   C  32  32      8       2         1
    apply                bf16x3    128       *        *       |   C   C  32      8       2         1
    apply                bf16x3    *         *        *       |   C  32  32      8       2         1
    apply                ieee      <64       *        *       |   C   C  32      4       1         4
    apply                ieee      64        *        *       |   C  32  32      4       1         4
    apply                ieee      128*      *        *       |   C  32  64      8       1         2

    features_backward    16-bit    <64       aligned  sm90    |   C   C  64      4       2         2
    features_backward    16-bit    <64       *        *       |   C   C  32      4       1         1
    features_backward    16-bit    64        aligned  sm90    |   C   C  64      4       2         2
    features_backward    16-bit    64        *        *       |   C   C  32      8       1         1
    features_backward    16-bit    128       aligned  sm90    |   C   C  64      8       2         1
    features_backward    16-bit    128       *        sm90    |   C   C  16      8       1         1
    features_backward    16-bit    128*      aligned  *       |   C  32  32      8       2         1
    features_backward    16-bit    128*      *        sm90    |   C  32  32      8       2         1
    features_backward    16-bit    128*      *        *       |   C  32  16      8       1         1
    features_backward    tf32      <64       *        sm<90   |   C   C  64      4       1         2
    features_backward    tf32      <64       *        *       |   C   C  64      4       2         2
    features_backward    tf32      64        *        sm<90   |   C   C  32      8       1         1
    features_backward    tf32      64        *        *       |   C   C  32      8       2         1
    features_backward    tf32      128*      *        small   |   C  32  32      8       2         1
    features_backward    tf32      128       *        sm<90   |   C   C  16      8       1         1
    features_backward    tf32      128       aligned  sm90    |   C   C  32      8       2         1
    features_backward    tf32      128       *        sm90    |   C   C  16      8       2         1
    features_backward    tf32      128       *        *       |   C   C  32      8       2         1
    features_backward    tf32      128+      *        sm<90   |   C  32  16      8       1         1
    features_backward    tf32      128+      *        *       |   C  32  32      8       2         1
    features_backward    bf16x6    <64       *        *       |   C   C  32      4       2         1
    features_backward    bf16x6    64        *        sm<90   |   C   C  16      8       1         1
    features_backward    bf16x6    64        *        *       |   C   C  32      8       2         1
    features_backward    bf16x6    128       aligned  sm90    |   C   C  16      8       1         1
    features_backward    bf16x6    128*      *        small   |   C  32  16      8       1         1
    features_backward    bf16x6    *         aligned  sm<90   |   C  32  32      8       2         1
    features_backward    bf16x6    *         aligned  *       |   C  32  32      8       1         1
    features_backward    bf16x6    *         *        *       |   C  32  16      8       1         1
    features_backward    bf16x3    <64       *        *       |   C   C  32      4       2         1
    features_backward    bf16x3    64        *        sm<90   |   C   C  16      8       1         1
    features_backward    bf16x3    64        *        *       |   C   C  32      8       2         1
    features_backward    bf16x3    128       aligned  sm90    |   C   C  32      8       2         1
    features_backward    bf16x3    *         aligned  *       |   C  32  32      8       1         1
    features_backward    bf16x3    *         *        *       |   C  32  16      8       1         1
    features_backward    ieee      <64       *        *       |   C   C  32      8       2         2
    features_backward    ieee      64        *        *       |   C  32  32      4       1         3
    features_backward    ieee      128*      *        *       |   C  32  32      8       1         2

    matrix_backward/outer_backward          16-bit  <64   *  *       |   C   C  64  4  2  2
    matrix_backward/outer_backward          16-bit  64    *  *       |   C   C  32  8  2  1
    phi_matrix_backward/phi_outer_backward  16-bit  128*  *  sm<90   |   C   C  16  8  2  1
    matrix_backward/outer_backward          16-bit  128*  *  *       |   C   C  32  8  2  1
    matrix_backward/outer_backward          tf32    <64   *  sm<90   |   C   C  64  4  1  2
    matrix_backward/outer_backward          tf32    <64   *  *       |   C   C  64  4  2  2
    matrix_backward/outer_backward          tf32    64    *  sm<90   |   C   C  32  8  1  1
    matrix_backward/outer_backward          tf32    64    *  *       |   C   C  32  8  2  1
    matrix_backward/outer_backward          tf32    128*  *  small   |  64  64  16  8  2  1
    phi_matrix_backward/phi_outer_backward  tf32    128*  *  sm<90   |   C   C  16  8  1  1
    matrix_backward/outer_backward          tf32    128*  *  sm<90   |   C   C  32  8  1  1
    matrix_backward/outer_backward          tf32    128*  *  *       |   C   C  32  8  2  1
    matrix_backward/outer_backward          bf16x3  64    *  sm<90   |   C   C  16  4  2  1
    matrix_backward/outer_backward          *       128*  *  *       |  64  64  16  8  2  1
    matrix_backward/outer_backward          *       *     *  *       |   C   C  16  8  2  1
"""
