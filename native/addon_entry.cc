// Where Node enters a variant; the rest of the addon is the same in all of them.
#include "addon.h"

NAPI_MODULE_INIT() { return plinth::initAddon(env, exports); }
