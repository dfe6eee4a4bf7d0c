"""Hold the assembly of gelu and its slope for two numbers at a time in float16, as text.

Half of the float32 work of a chunk is gelu, and its result goes into a product of 16-bit operands anyway. So for tokens
of 16 bits two numbers share each instruction, and tanh is the hardware's (error 2^-11, that of the operands). z is kept
within -4 and 65504: beyond 255 its square would be infinite in float16, and infinite times the zero of a saturated
slope no number, and beyond 4 an error of tanh would be multiplied by ever more; gelu is 0 below and z above, within
1e-4. NaN stays NaN. triton_gelu.py puts it into kernels; Triton's
interpreter cannot run it, tests/kernels/test_gelu.py does. Triton is not imported.
"""

# Two float16 a register: z clamped for tanh (c) and for the result (x), c squared (s), tanh (t), half of 1 + t (h).
# gelu = x h; its slope, since 1 - t^2 is 4 (h - h^2): h + c (h - h^2) 4 (0.398942 + 0.0535161 s).
# 0x44004400 = 4, 0xC400C400 = -4, 0x7BFF7BFF = 65504, 0x28912891 = 0.0356774, 0x3A623A62 = 0.797885,
# 0x38003800 = 0.5, 0x3E623E62 = 1.595769, 0x32DA32DA = 0.214064 (each twice).
_HEAD = """{
.reg .b32 z, c, s, p, t, h, x, w, a, b;
.reg .b16 low, high;
.reg .f32 flow, fhigh;
cvt.rn.f16x2.f32 z, %HIGH%, %LOW%;
mov.b32 a, 0xC400C400;
max.NaN.f16x2 z, z, a;
mov.b32 a, 0x7BFF7BFF;
min.NaN.f16x2 x, z, a;
mov.b32 a, 0x44004400;
min.NaN.f16x2 c, z, a;
mul.rn.f16x2 s, c, c;
mov.b32 a, 0x28912891;
mov.b32 b, 0x3A623A62;
fma.rn.f16x2 p, s, a, b;
mul.rn.f16x2 p, c, p;
tanh.approx.f16x2 t, p;
mov.b32 a, 0x38003800;
fma.rn.f16x2 h, t, a, a;
mul.rn.f16x2 x, x, h;
"""
_SLOPE = """neg.f16x2 p, h;
fma.rn.f16x2 w, p, h, h;
mul.rn.f16x2 c, c, w;
mov.b32 a, 0x32DA32DA;
mov.b32 b, 0x3E623E62;
fma.rn.f16x2 s, s, a, b;
fma.rn.f16x2 $1, c, s, h;
"""
_AS_HALF = "mov.b32 $0, x;\n}"
_AS_BFLOAT = """mov.b32 {low, high}, x;
cvt.f32.f16 flow, low;
cvt.f32.f16 fhigh, high;
cvt.rn.bf16x2.f32 $0, fhigh, flow;
}"""


def _assembly(tail: str, slope: bool) -> str:
    low, high = ("$2", "$3") if slope else ("$1", "$2")
    return _HEAD.replace("%HIGH%", high).replace("%LOW%", low) + (_SLOPE if slope else "") + tail


HALF_WITH_SLOPE, BFLOAT_WITH_SLOPE = _assembly(_AS_HALF, True), _assembly(_AS_BFLOAT, True)
HALF, BFLOAT = _assembly(_AS_HALF, False), _assembly(_AS_BFLOAT, False)
