#ifndef TIERCEL_TESTS_SUPPORT_SANITIZED_H_
#define TIERCEL_TESTS_SUPPORT_SANITIZED_H_

namespace tiercel::testing {

/// Whether this is built with ASan or TSan: long tests do less then.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kSanitized =
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_SUPPORT_SANITIZED_H_
