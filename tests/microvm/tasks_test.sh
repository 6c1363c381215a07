# In the emulated machine: hob-guest's suite and the sandbox drivers'.
export HOB_TEST_MICROVM=/files
filter=$(sed -n 's/.*hob\.filter=\([^ ]*\).*/\1/p' /proc/cmdline)
patience=$(sed -n 's/.*hob\.patience=\([0-9]*\).*/\1/p' /proc/cmdline)
# Should something wait for ever: for what.
(
  sleep "$patience"
  ps -eo pid,args
  for process in $(pgrep hob-); do
    grep . "/proc/$process/comm" /proc/"$process"/task/*/stack
  done
) &
/tests/guest_suite /files --gtest_color=no
echo "suite ended with $?"
/tests/sandbox_test --gtest_color=no "--gtest_filter=$filter"
echo "suite ended with $?"
