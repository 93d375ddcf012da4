#include "pool.h"

#include <pthread.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "arithmetic.h"

namespace interp_fast {
namespace {

// Long enough to catch the next parallel loop of the same call without a wake-up, which takes as long as a small loop;
// a fraction of a millisecond, so that no core is taken from anybody.
constexpr int kSpins = 16000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The processor that runs this thread; -1 where that cannot be told.
int processor() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

// Moves this thread to another processor, if it may use one. Linux often leaves a thread on the processor of the one
// that woke it until it balances, milliseconds later: longer than most loops take.
void leave([[maybe_unused]] int from) {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  cpu_set_t others = allowed;
  CPU_CLR(static_cast<size_t>(from), &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return;
  sched_setaffinity(0, sizeof allowed, &allowed);
#endif
}

// What this thread polls, when it did last, and whether the loop that it works for has failed.
thread_local void (*polled)() = nullptr;
thread_local std::chrono::steady_clock::duration polled_at{};  // of the clock
thread_local const std::atomic<bool>* failed = nullptr;

struct Abandoned : std::exception {};  // thrown out of a task whose loop has failed

// The tasks of one loop on this thread, as far as polling goes: where they are short the clock is not read at each.
class Pace {
 public:
  void next() {
    if (!polled || --skip_ > 0) return;
    const auto now = std::chrono::steady_clock::now();
    skip_ = now - seen_ < std::chrono::milliseconds(1) ? kSkip : 1;
    seen_ = now;
    if (now.time_since_epoch() - polled_at < std::chrono::milliseconds(200)) return;
    polled_at = now.time_since_epoch();
    polled();
  }

 private:
  static constexpr int kSkip = 32;
  int skip_ = 1;
  std::chrono::steady_clock::time_point seen_;
};

class Pool {
 public:
  void run(int64_t tasks, int threads, const std::function<void(int64_t, int)>& body) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (; workers_ < threads - 1; workers_++) {
        std::thread([this, id = workers_ + 1, seen = generation_.load()] { loop(id, seen); }).detach();
      }
      body_ = &body;
      tasks_ = tasks;
      next_ = 0;
      failed_ = false;
      helpers_ = threads - 1;
      home_ = processor();
      generation_++;
    }
    wake_.notify_all();
    work(0);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      helpers_ = 0;  // whoever has not come by now is not waited for
    }
    for (int k = 0; k < kSpins && active_.load(std::memory_order_acquire) > 0; k++) relax();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return active_ == 0; });
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  void loop(int id, int64_t seen) {
    const DefaultArithmetic arithmetic;  // not that of the thread that started this one
    for (;;) {
      for (int k = 0; k < kSpins && generation_.load(std::memory_order_acquire) == seen; k++) relax();
      int home;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen; });
        seen = generation_;
        if (id > helpers_) continue;
        active_++;
        home = home_;
      }
      if (home >= 0 && processor() == home) leave(home);
      work(id);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--active_ == 0) done_.notify_one();
    }
  }

  void work(int worker) {
    const std::atomic<bool>* const outer = std::exchange(failed, &failed_);
    Pace pace;
    for (int64_t task; (task = next_.fetch_add(1)) < tasks_;) {
      try {
        pace.next();
        (*body_)(task, worker);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!error_) error_ = std::current_exception();
        next_ = tasks_;
        failed_ = true;
      }
    }
    failed = outer;
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<int64_t> generation_{0}, next_{0};
  std::atomic<int> active_{0};
  std::atomic<bool> failed_{false};
  const std::function<void(int64_t, int)>* body_ = nullptr;
  int64_t tasks_ = 0;
  int workers_ = 0, helpers_ = 0, home_ = -1;  // home: the processor of the thread that called
  std::exception_ptr error_;
};

// Never destroyed: its threads sleep until the process ends.
Pool* pool = nullptr;
std::mutex pool_mutex;
std::atomic<int> limit{0};  // 0: none

// The threads do not exist in a forked child, and its copy of the mutex may be locked for ever.
void forget_pool() {
  pool = nullptr;
  new (&pool_mutex) std::mutex;
}

[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, forget_pool);

}  // namespace

void parallel_for(int64_t tasks, int threads, const std::function<void(int64_t, int)>& body) {
  if (limit > 0) threads = std::min<int>(threads, limit);
  threads = static_cast<int>(std::min<int64_t>(threads, tasks));
  if (threads > 1) {
    std::unique_lock<std::mutex> lock(pool_mutex, std::try_to_lock);
    if (lock.owns_lock()) {
      if (!pool) pool = new Pool;
      pool->run(tasks, threads, body);
      return;
    }
  }
  Pace pace;
  for (int64_t task = 0; task < tasks; task++) {
    pace.next();
    body(task, 0);
  }
}

void parallel_by_query(int64_t tasks, int threads, const std::function<void(int64_t)>& body) {
  // Each thread has as many stretches: those that it does not come to are taken by the others.
  constexpr int64_t kOfThread = 4;
  const int64_t stretches = threads * kOfThread;
  parallel_for(std::min(tasks, stretches), threads, [&](int64_t number, int) {
    const int64_t at = tasks < stretches ? number : number % threads * kOfThread + number / threads;
    const int64_t count = std::min(tasks, stretches), last = tasks * (at + 1) / count;
    Pace pace;
    for (int64_t task = tasks * at / count; task < last && !(failed && *failed); task++) {
      pace.next();
      body(task);
    }
  });
}

Polled::Polled(void (*poll)()) : before_(std::exchange(polled, poll)) {}

Polled::~Polled() { polled = before_; }

void checkpoint() {
  if (failed && *failed) throw Abandoned();
  Pace().next();
}

}  // namespace interp_fast

// For threadpoolctl: an upper limit on the threads of any call.
extern "C" __attribute__((visibility("default"))) int interp_fast_get_num_threads() {
  return interp_fast::limit > 0 ? interp_fast::limit.load()
                                : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

extern "C" __attribute__((visibility("default"))) void interp_fast_set_num_threads(int n) { interp_fast::limit = n; }
