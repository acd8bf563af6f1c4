#include "kernel.h"

namespace plinth {

std::map<std::string, Kernel>& kernelRegistry() {
  static std::map<std::string, Kernel> registry;
  return registry;
}

KernelRegistration::KernelRegistration(const char* name, Kernel kernel) { kernelRegistry()[name] = kernel; }

}  // namespace plinth
