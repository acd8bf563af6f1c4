// The functions that JavaScript sees, put on the module's exports; used by each variant's entry point.
#pragma once

#include <node_api.h>

namespace plinth {

napi_value initAddon(napi_env env, napi_value exports);

}  // namespace plinth
