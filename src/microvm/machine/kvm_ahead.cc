#include "microvm/machine/kvm_ahead.h"

#include <utility>

namespace hob::microvm {

Result<EmptyMachine> make_empty_machine() {
  HOB_TRY(Kvm kvm, Kvm::open());
  HOB_TRY(KvmVm vm, KvmVm::create(kvm));
  return EmptyMachine{.kvm = std::move(kvm), .vm = std::move(vm)};
}

void KvmAhead::begin() {
  thread_ = std::thread([this] { made_ = make_empty_machine(); });
  // Where there is one CPU it would wait for the end of our turn before it begins to wait for KVM.
  std::this_thread::yield();
}

KvmAhead::~KvmAhead() {
  if (thread_.joinable()) thread_.join();
}

Result<EmptyMachine> KvmAhead::take() {
  if (thread_.joinable()) thread_.join();
  auto made = std::exchange(made_, std::nullopt);
  return made && *made ? std::move(*made) : make_empty_machine();
}

}  // namespace hob::microvm
