// Goal: the annotated mutex and condition variable exclude and wake like the
// standard ones that they wrap.
//
// Method: threads that would lose counts or sleep for ever if they did not; run
// under ThreadSanitizer, which also sees that the lock orders memory.

#include "base/mutex.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

namespace tiercel {
namespace {

struct Counter {
  Mutex mutex;
  CondVar changed;
  int value TIERCEL_GUARDED_BY(mutex) = 0;
};

/// Whether the mutex could be had, for a moment.
bool CouldBeHad(Mutex& mutex) {
  if (!mutex.TryLock()) return false;
  mutex.Unlock();
  return true;
}

TEST(Mutex, Excludes) {
  Counter counter;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&counter] {
      for (int i = 0; i < 20000; ++i) {
        const MutexLock lock(counter.mutex);
        ++counter.value;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const MutexLock lock(counter.mutex);
  EXPECT_EQ(counter.value, 80000);
}

TEST(Mutex, TryLockFailsWhileHeld) {
  Mutex mutex;
  {
    const MutexLock lock(mutex);
    bool had = true;
    std::thread([&mutex, &had] { had = CouldBeHad(mutex); }).join();
    EXPECT_FALSE(had);
  }
  EXPECT_TRUE(CouldBeHad(mutex));
  EXPECT_TRUE(CouldBeHad(mutex)) << "it was let go of";
}

TEST(CondVar, HandsATurnBackAndForth) {
  constexpr int kTurns = 1000;
  Counter counter;  // Even: the main thread's turn.
  std::thread other([&counter] {
    for (int i = 0; i < kTurns; ++i) {
      const MutexLock lock(counter.mutex);
      while (counter.value % 2 == 0) counter.changed.Wait(counter.mutex);
      ++counter.value;
      counter.changed.NotifyOne();
    }
  });
  for (int i = 0; i < kTurns; ++i) {
    const MutexLock lock(counter.mutex);
    while (counter.value % 2 == 1) counter.changed.Wait(counter.mutex);
    ++counter.value;
    counter.changed.NotifyOne();
  }
  other.join();
  const MutexLock lock(counter.mutex);
  EXPECT_EQ(counter.value, 2 * kTurns);
}

TEST(CondVar, WaitUntilReturnsFalseAfterTheDeadlineAndHoldsTheLock) {
  Counter counter;
  const MutexLock lock(counter.mutex);
  const auto past = std::chrono::steady_clock::now() - std::chrono::milliseconds(1);
  EXPECT_FALSE(counter.changed.WaitUntil(counter.mutex, past));
  bool had = true;
  std::thread([&counter, &had] { had = CouldBeHad(counter.mutex); }).join();
  EXPECT_FALSE(had);
}

TEST(CondVar, NotifyAllWakesEveryWaiter) {
  Counter counter;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&counter] {
      const MutexLock lock(counter.mutex);
      while (counter.value == 0) counter.changed.Wait(counter.mutex);
    });
  }
  {
    const MutexLock lock(counter.mutex);
    counter.value = 1;
    counter.changed.NotifyAll();
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tiercel
