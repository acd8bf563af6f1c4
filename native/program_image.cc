#include "program_image.h"

#include <cstring>
#include <stdexcept>

namespace plinth {
namespace {

constexpr double kFirstWord = 0x506c696e7468;  // "Plinth"

[[noreturn]] void fail(const char* what, const char* problem) {
  throw std::runtime_error(std::string("program image: ") + what + ": " + problem);
}

OperandSpec readOperand(ImageReader& reader) {
  OperandSpec operand{};
  const int64_t storage = reader.integer("storage");
  if (storage < 0 || storage > 3) fail("storage", "expected 0 to 3");
  operand.storage = static_cast<Storage>(storage);
  operand.index = reader.integer("index");
  operand.byteOffset = reader.integer("byteOffset");
  const int64_t dtype = reader.integer("dtype");
  if (dtype < 0 || dtype >= kDTypes) fail("dtype", "expected a code of 0 to 4");
  operand.tensor.dtype = static_cast<DType>(dtype);
  const int64_t rank = reader.integer("rank");
  if (rank < 0 || rank > kMaxRank) fail("rank", "expected at most 8 axes");
  operand.tensor.rank = static_cast<int>(rank);
  for (int64_t i = 0; i < rank; i++) operand.tensor.shape[i] = reader.integer("shape");
  for (int64_t i = 0; i < rank; i++) operand.tensor.strides[i] = reader.integer("strides");
  return operand;
}

InstructionSpec readInstruction(ImageReader& reader) {
  InstructionSpec instruction;
  instruction.kernel = reader.text("kernel");
  instruction.label = reader.text("label");
  for (auto* operands : {&instruction.inputs, &instruction.outputs}) {
    for (int64_t n = reader.count("operands"); n > 0; n--) operands->push_back(readOperand(reader));
  }
  for (int64_t n = reader.count("ints"); n > 0; n--) instruction.ints.push_back(reader.integer("ints"));
  for (int64_t n = reader.count("floats"); n > 0; n--) instruction.floats.push_back(reader.number("floats"));
  instruction.workspaceOffset = reader.integer("workspaceOffset");
  instruction.workspaceBytes = reader.integer("workspaceBytes");
  return instruction;
}

}  // namespace

double ImageReader::number(const char* what) {
  if (end_ - at_ < 8) fail(what, "the bytes end here");
  double value;
  std::memcpy(&value, at_, 8);
  at_ += 8;
  return value;
}

int64_t ImageReader::integer(const char* what) {
  const double value = number(what);
  if (!(value >= -0x1p53 && value <= 0x1p53) || static_cast<double>(static_cast<int64_t>(value)) != value) {
    fail(what, "expected a whole number");
  }
  return static_cast<int64_t>(value);
}

int64_t ImageReader::count(const char* what) {
  const int64_t value = integer(what);
  if (value < 0 || value > (end_ - at_) / 8) fail(what, "the bytes end before the last of them");
  return value;
}

const uint8_t* ImageReader::bytes(const char* what, int64_t& size) {
  size = integer(what);
  if (size < 0 || size > end_ - at_ || (size + 7) / 8 * 8 > end_ - at_) fail(what, "the bytes end here");
  const uint8_t* data = at_;
  at_ += (size + 7) / 8 * 8;
  return data;
}

std::string ImageReader::text(const char* what) {
  int64_t size;
  const uint8_t* data = bytes(what, size);
  return std::string(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
}

ProgramImage readProgram(ImageReader& reader) {
  ProgramImage image;
  ProgramSpec& spec = image.spec;
  if (reader.number("first word") != kFirstWord) fail("first word", "this is no program");
  spec.arenaBytes = reader.integer("arenaBytes");
  for (int64_t n = reader.count("inputs"); n > 0; n--) spec.inputBytes.push_back(reader.integer("input bytes"));
  for (int64_t n = reader.count("outputs"); n > 0; n--) {
    spec.outputBytes.push_back(reader.integer("output bytes"));
    const int64_t alias = reader.integer("aliasInput");
    const int64_t inputs = static_cast<int64_t>(spec.inputBytes.size());
    if (alias < -1 || alias >= inputs) fail("aliasInput", "expected an input's index or -1");
    if (alias >= 0 && spec.inputBytes[static_cast<size_t>(alias)] != spec.outputBytes.back()) {
      fail("aliasInput", "the output is not as large as the input whose memory it takes");
    }
    image.aliasInputs.push_back(alias);
  }
  for (int64_t n = reader.count("constants"); n > 0; n--) {
    int64_t size;
    const uint8_t* data = reader.bytes("constant", size);
    spec.constants.emplace_back(size);
    spec.constantBytes.push_back(size);
    if (size > 0) std::memcpy(spec.constants.back().data(), data, static_cast<size_t>(size));
  }
  for (int64_t n = reader.count("instructions"); n > 0; n--) spec.instructions.push_back(readInstruction(reader));
  return image;
}

}  // namespace plinth
