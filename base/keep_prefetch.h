#ifndef TIERCEL_BASE_KEEP_PREFETCH_H_
#define TIERCEL_BASE_KEEP_PREFETCH_H_

/// Belongs in a function that does nothing but prefetch. GCC 12 takes one for pure, since
/// a prefetch stores nothing, and drops its calls. `pointer` is any of its pointers; costs no
/// instruction.
#define TIERCEL_KEEP_PREFETCH(pointer) asm volatile("" : : "r"(pointer))  // NOLINT

#endif  // TIERCEL_BASE_KEEP_PREFETCH_H_
