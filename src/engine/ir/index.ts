export { decodeFloat32, decodeFloat64, encodeHost } from "./convert.ts";
export { type DType, dtypeBytes, type HostArray, type HostArrays, isFloating } from "./dtype.ts";
export { type Graph, topologicalOrder } from "./graph.ts";
export { allocateHost, NdArray } from "./nd-array.ts";
export { defineOp, type NoGradient, type OpDef, type OpSample, registeredOps, type VjpRule } from "./op.ts";
export { printGraph } from "./print.ts";
export { formatShape, type Shape, sameShape, sizeOf } from "./shape.ts";
export { type Attrs, apply, apply1, type Node, Tensor, type TensorType, withScope } from "./tensor.ts";
export { verifyGraph } from "./verify.ts";
