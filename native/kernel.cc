#include "kernel.h"

namespace plinth {

const KernelRegistration* KernelRegistration::first = nullptr;

Kernel findKernel(const std::string& name) {
  for (const KernelRegistration* entry = KernelRegistration::first; entry != nullptr; entry = entry->next) {
    if (name == entry->name) return entry->kernel;
  }
  return nullptr;
}

}  // namespace plinth
