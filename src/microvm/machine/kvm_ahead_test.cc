#include "microvm/machine/kvm_ahead.h"

#include <gtest/gtest.h>

namespace hob::microvm {
namespace {

// Where there is no KVM of use each attempt says so; else each gives a machine of its own.
TEST(KvmAhead, GivesWhatWasBegunAndThenAnother) {
  const auto plain = make_empty_machine();
  KvmAhead ahead;
  ahead.begin();
  const auto first = ahead.take();
  const auto second = ahead.take();
  EXPECT_EQ(first.has_value(), plain.has_value());
  EXPECT_EQ(second.has_value(), plain.has_value());
  if (!plain) {
    EXPECT_EQ(first.error().message, plain.error().message);
    EXPECT_EQ(second.error().message, plain.error().message);
  } else {
    EXPECT_NE(first->vm.fd(), second->vm.fd());
  }
}

TEST(KvmAhead, NeedNotBeBegunNorTaken) {
  KvmAhead unused;
  KvmAhead begun;
  begun.begin();
  KvmAhead late;
  EXPECT_EQ(late.take().has_value(), make_empty_machine().has_value());
}

}  // namespace
}  // namespace hob::microvm
