// Small helpers over Node-API: values in and out, C++ exceptions to JavaScript errors.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace plinth::js {

// Thrown when a JavaScript exception is already pending.
struct Pending {};

inline void check(napi_env env, napi_status status) {
  if (status == napi_ok) return;
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) throw Pending{};
  const napi_extended_error_info* info = nullptr;
  napi_get_last_error_info(env, &info);
  throw std::runtime_error(info != nullptr && info->error_message != nullptr ? info->error_message : "Node-API failed");
}

// Handles made while this lives are given up with it.
class Scope {
 public:
  explicit Scope(napi_env env) : env_(env) { check(env, napi_open_handle_scope(env, &scope_)); }
  ~Scope() { napi_close_handle_scope(env_, scope_); }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  napi_env env_;
  napi_handle_scope scope_;
};

inline napi_value get(napi_env env, napi_value object, const char* name) {
  napi_value value;
  check(env, napi_get_named_property(env, object, name, &value));
  return value;
}

inline napi_value get(napi_env env, napi_value array, uint32_t index) {
  napi_value value;
  check(env, napi_get_element(env, array, index, &value));
  return value;
}

inline uint32_t length(napi_env env, napi_value array, const char* what) {
  bool isArray = false;
  check(env, napi_is_array(env, array, &isArray));
  if (!isArray) throw std::runtime_error(std::string(what) + ": expected an array");
  uint32_t n = 0;
  check(env, napi_get_array_length(env, array, &n));
  return n;
}

inline double toDouble(napi_env env, napi_value value, const char* what) {
  double result = 0;
  if (napi_get_value_double(env, value, &result) != napi_ok) {
    throw std::runtime_error(std::string(what) + ": expected a number");
  }
  return result;
}

inline int64_t toInt(napi_env env, napi_value value, const char* what) {
  const double number = toDouble(env, value, what);
  const int64_t result = static_cast<int64_t>(number);
  if (static_cast<double>(result) != number) throw std::runtime_error(std::string(what) + ": expected a whole number");
  return result;
}

inline std::string toString(napi_env env, napi_value value, const char* what) {
  size_t n = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &n) != napi_ok) {
    throw std::runtime_error(std::string(what) + ": expected a string");
  }
  std::string result(n, '\0');
  check(env, napi_get_value_string_utf8(env, value, result.data(), n + 1, &n));
  return result;
}

inline napi_value fromString(napi_env env, const std::string& text) {
  napi_value value;
  check(env, napi_create_string_utf8(env, text.data(), text.size(), &value));
  return value;
}

inline napi_value fromDouble(napi_env env, double number) {
  napi_value value;
  check(env, napi_create_double(env, number, &value));
  return value;
}

inline napi_value fromStrings(napi_env env, const std::vector<std::string>& texts) {
  napi_value array;
  check(env, napi_create_array_with_length(env, texts.size(), &array));
  for (size_t i = 0; i < texts.size(); i++) {
    check(env, napi_set_element(env, array, static_cast<uint32_t>(i), fromString(env, texts[i])));
  }
  return array;
}

inline void set(napi_env env, napi_value object, const char* name, napi_value value) {
  check(env, napi_set_named_property(env, object, name, value));
}

// The memory of a typed array, DataView or ArrayBuffer.
struct Bytes {
  void* data = nullptr;
  int64_t size = 0;
};

inline Bytes toBytes(napi_env env, napi_value value, const char* what) {
  bool is = false;
  size_t size = 0;
  void* data = nullptr;
  check(env, napi_is_typedarray(env, value, &is));
  if (is) {
    napi_typedarray_type type;
    check(env, napi_get_typedarray_info(env, value, &type, &size, &data, nullptr, nullptr));
    switch (type) {
      case napi_int16_array:
      case napi_uint16_array: size *= 2; break;
      case napi_int32_array:
      case napi_uint32_array:
      case napi_float32_array: size *= 4; break;
      case napi_float64_array:
      case napi_bigint64_array:
      case napi_biguint64_array: size *= 8; break;
      default: break;
    }
    return {data, static_cast<int64_t>(size)};
  }
  check(env, napi_is_dataview(env, value, &is));
  if (is) {
    check(env, napi_get_dataview_info(env, value, &size, &data, nullptr, nullptr));
    return {data, static_cast<int64_t>(size)};
  }
  check(env, napi_is_arraybuffer(env, value, &is));
  if (!is) throw std::runtime_error(std::string(what) + ": expected a typed array, a DataView or an ArrayBuffer");
  check(env, napi_get_arraybuffer_info(env, value, &data, &size));
  return {data, static_cast<int64_t>(size)};
}

// Wraps a function (env, args) -> napi_value: exceptions become JavaScript errors.
template <napi_value (*Function)(napi_env, const std::vector<napi_value>&)>
napi_value call(napi_env env, napi_callback_info info) {
  try {
    size_t count = 8;
    std::vector<napi_value> args(count);
    check(env, napi_get_cb_info(env, info, &count, args.data(), nullptr, nullptr));
    args.resize(8);  // absent arguments are undefined
    return Function(env, args);
  } catch (const Pending&) {
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
  }
  return nullptr;
}

}  // namespace plinth::js
