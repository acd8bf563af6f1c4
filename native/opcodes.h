// Opcodes of the fused kernel's bytecode (KERNELS.md). `src/engine/ops/opcodes.ts` holds the same table; a test compares them.
// Append only: the numbers are part of the interface.
#pragma once

// X(name, number, register operands)
#define PLINTH_OPCODES(X) \
  X(load, 0, 0) \
  X(load_int, 1, 0) \
  X(const, 2, 0) \
  X(const_int, 3, 0) \
  X(store, 4, 1) \
  X(store_int, 5, 1) \
  X(reduce_sum, 6, 1) \
  X(reduce_max, 7, 1) \
  X(neg, 8, 1) \
  X(abs, 9, 1) \
  X(exp, 10, 1) \
  X(log, 11, 1) \
  X(sqrt, 12, 1) \
  X(rsqrt, 13, 1) \
  X(reciprocal, 14, 1) \
  X(square, 15, 1) \
  X(tanh, 16, 1) \
  X(sigmoid, 17, 1) \
  X(sin, 18, 1) \
  X(cos, 19, 1) \
  X(erf, 20, 1) \
  X(floor, 21, 1) \
  X(sign, 22, 1) \
  X(gelu_tanh, 23, 1) \
  X(gelu_erf, 24, 1) \
  X(silu, 25, 1) \
  X(relu, 26, 1) \
  X(not, 27, 1) \
  X(gelu_tanh_grad, 28, 1) \
  X(gelu_erf_grad, 29, 1) \
  X(silu_grad, 30, 1) \
  X(add, 31, 2) \
  X(sub, 32, 2) \
  X(mul, 33, 2) \
  X(div, 34, 2) \
  X(max, 35, 2) \
  X(min, 36, 2) \
  X(pow, 37, 2) \
  X(lt, 38, 2) \
  X(le, 39, 2) \
  X(eq, 40, 2) \
  X(ne, 41, 2) \
  X(gt, 42, 2) \
  X(ge, 43, 2) \
  X(and, 44, 2) \
  X(or, 45, 2) \
  X(select, 46, 3) \
  X(fma, 47, 3) \
  X(iadd, 48, 2) \
  X(isub, 49, 2) \
  X(imul, 50, 2) \
  X(idiv, 51, 2) \
  X(irem, 52, 2) \
  X(imax, 53, 2) \
  X(imin, 54, 2) \
  X(ilt, 55, 2) \
  X(ile, 56, 2) \
  X(ieq, 57, 2) \
  X(int_to_float, 58, 1) \
  X(float_to_int, 59, 1) \
  X(round_bf16, 60, 1) \
  X(round_f16, 61, 1) \
  X(gelu_tanh_gate, 62, 1) \
  X(gelu_erf_gate, 63, 1) \
  X(gelu_tanh_slope, 64, 2) \
  X(gelu_erf_slope, 65, 2) \
  X(silu_slope, 66, 2)

enum class Opcode : int {
#define PLINTH_OPCODE_ENUM(name, number, operands) op_##name = number,
  PLINTH_OPCODES(PLINTH_OPCODE_ENUM)
#undef PLINTH_OPCODE_ENUM
};
