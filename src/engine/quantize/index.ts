export { packingOf, type QuantizedFormat, type QuantizedLayout, quantizedFormats } from "./layout.ts";
export { nf4Values } from "./nf4.ts";
export {
  dequantizeWeight,
  type QuantizationError,
  type QuantizedWeight,
  type QuantizeOptions,
  quantizationError,
  quantizeWeight,
} from "./quantize.ts";
