/* System calls without a C library: the preloaded library must run in glibc's and in musl's programs alike.
 *
 * Theory. Every system call of the library is made between stage_calls_begin and stage_calls_end, a few instructions of
 * assembly. Syscall user dispatch (dispatch.h) leaves this range alone and stops everything else.
 *
 * Rules of this file: no state; nothing here may call anything but stage_call. Memory whose address the program gave is
 * read and written with read_memory and write_memory, which fail where a plain access would end the process.
 */
#ifndef FASTINETD_STAGE_SYSTEM_H
#define FASTINETD_STAGE_SYSTEM_H

#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <stddef.h>
#include <stdint.h>

extern const char stage_calls_begin[] __attribute__((visibility("hidden")));
extern const char stage_calls_end[] __attribute__((visibility("hidden")));
extern long stage_call(long number, long a, long b, long c, long d, long e, long f)
    __attribute__((visibility("hidden")));

#if defined(__x86_64__)
extern void stage_restorer(void) __attribute__((visibility("hidden")));
extern void stage_sigreturn(unsigned long stack) __attribute__((visibility("hidden"), noreturn));

__asm__(
    ".text\n"
    ".balign 64\n"
    ".globl stage_calls_begin, stage_calls_end, stage_call, stage_restorer, stage_sigreturn\n"
    ".hidden stage_calls_begin, stage_calls_end, stage_call, stage_restorer, stage_sigreturn\n"
    ".type stage_call, @function\n"
    "stage_calls_begin:\n"
    "stage_call:\n"
    "    mov %rdi, %rax\n"
    "    mov %rsi, %rdi\n"
    "    mov %rdx, %rsi\n"
    "    mov %rcx, %rdx\n"
    "    mov %r8, %r10\n"
    "    mov %r9, %r8\n"
    "    mov 8(%rsp), %r9\n"
    "    syscall\n"
    "    ret\n"
    "stage_sigreturn:\n"            /* returns from a handler of the program, whose frame is at rdi */
    "    mov %rdi, %rsp\n"
    "stage_restorer:\n"
    "    mov $15, %eax\n"           /* rt_sigreturn */
    "    syscall\n"
    "    ud2\n"
    "stage_calls_end:\n"
);
#elif defined(__aarch64__)
__asm__(
    ".text\n"
    ".balign 64\n"
    ".globl stage_calls_begin, stage_calls_end, stage_call\n"
    ".hidden stage_calls_begin, stage_calls_end, stage_call\n"
    ".type stage_call, @function\n"
    "stage_calls_begin:\n"
    "stage_call:\n"
    "    mov x8, x0\n"
    "    mov x0, x1\n"
    "    mov x1, x2\n"
    "    mov x2, x3\n"
    "    mov x3, x4\n"
    "    mov x4, x5\n"
    "    mov x5, x6\n"
    "    svc #0\n"
    "    ret\n"
    "stage_calls_end:\n"
);
#else
#error "the held program's library knows x86-64 and aarch64 only"
#endif

#define CALL_6(n, a, b, c, d, e, f, ...) \
    stage_call(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define CALL(...) CALL_6(__VA_ARGS__, 0, 0, 0, 0, 0, 0)     /* number, then up to six arguments */

/* The kernel reads the mask before it finds that there is no such operation as -1. */
static int is_readable(unsigned long address)
{
    return CALL(__NR_rt_sigprocmask, -1, address & ~7UL, 0, 8) == -EINVAL;
}

static int is_writable(unsigned long address)
{
    uint64_t *word = (uint64_t *)(address & ~7UL), before;
    long result;
    if (!is_readable(address))
        return 0;
    before = *word;
    result = CALL(__NR_rt_sigprocmask, 0, 0, word, 8);
    if (result == 0)
        *word = before;
    return result == 0;
}

/* Between memory at `address`, which may be anything, and ours. Returns the bytes that could be had, at most `size`. */
static size_t read_memory(unsigned long address, void *into, size_t size)
{
    size_t done;
    for (done = 0; done < size; done++) {
        if ((done == 0 || !((address + done) & 4095)) && !is_readable(address + done))
            break;
        ((char *)into)[done] = *(const char *)(address + done);
    }
    return done;
}

static size_t write_memory(unsigned long address, const void *from, size_t size)
{
    size_t done;
    for (done = 0; done < size; done++) {
        if ((done == 0 || !((address + done) & 4095)) && !is_writable(address + done))
            break;
        *(char *)(address + done) = ((const char *)from)[done];
    }
    return done;
}

static inline size_t length_of(const char *text)
{
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

static inline int starts_with(const char *text, const char *start)
{
    while (*start)
        if (*text++ != *start++)
            return 0;
    return 1;
}

static inline void clear_bytes(char *at, size_t size)
{
    while (size--)
        *at++ = 0;
}

#endif
