/* first_io: the program runs on until its first use of the client, and is held there.
 *
 * Theory. Under syscall user dispatch every system call made outside of system.h's few instructions becomes a
 * SIGSYS instead. The handler judges it (judge.h): it makes the call for the program and puts the result into the
 * registers that the handler's return restores; or it answers it itself; or it holds the program. Dispatch does not
 * survive a fork: a child returns from the handler to the very instruction, and makes the call for itself, at full
 * speed.
 *
 * Rules of this file:
 *  - the handler may be interrupted by the program's own handlers, which may jump out of it for good: it keeps nothing
 *    in static memory but what the program set (SIGSYS's action, whether it is blocked, who blocks it) and counts;
 *  - SIGSYS is never really blocked or ignored while dispatch is on, for then the kernel would kill the process;
 *  - what a handler's return restores (the mask, the alternate stack) is changed in the frame, not in the kernel;
 *  - while the program is held, signals it has handlers for wait: they run in no zygote.
 */
#ifndef FASTINETD_STAGE_DISPATCH_H
#define FASTINETD_STAGE_DISPATCH_H

#include "stage.h"

typedef void stage_holder(enum stage_point point, int call, unsigned calls);

#if defined(__x86_64__)

#include <linux/audit.h>
#include <linux/prctl.h>

#include "judge.h"
#include "scout.h"
#include "traps.h"

#define BY_DISPATCH 2               /* si_code: SYS_USER_DISPATCH */

static stage_holder *holder;
static unsigned calls_made;

static long make_call(const struct trapped_call *call)
{
    const long *a = call->arguments;
    return stage_call(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Dispatch off; clocks as they were; signals as the program set them, but those with handlers wait. */
static void settle_signals(void)
{
    uint64_t handled = 0;
    struct signal_action action;
    int number;

    CALL(__NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
    free_clocks();
    CALL(__NR_rt_sigaction, SIGSYS, &program_action, 0, 8);
    for (number = 1; number <= 64; number++) {
        if (CALL(__NR_rt_sigaction, number, 0, &action, 8) < 0)
            continue;
        if (blocks_sigsys & SIGNAL_BIT(number)) {
            action.mask |= SIGNAL_BIT(SIGSYS);
            CALL(__NR_rt_sigaction, number, &action, 0, 8);
        }
        if (action.handler > IGNORED)
            handled |= SIGNAL_BIT(number);
    }
    CALL(__NR_rt_sigprocmask, SIG_BLOCK, &handled, 0, 8);
}

/* Do with a SIGSYS that a process has sent what the program's own action for it would. */
static void pass_signal(int number, siginfo_t *info, struct ucontext *context)
{
    if (program_action.handler > IGNORED)
        ((void (*)(int, siginfo_t *, void *))program_action.handler)(number, info, context);
    else if (program_action.handler != IGNORED) {
        settle_signals();
        CALL(__NR_tgkill, CALL(__NR_getpid), CALL(__NR_gettid), SIGSYS);
    }
}

static void handle_trap(int number, siginfo_t *info, struct ucontext *context)
{
    struct sigcontext *registers = &context->uc_mcontext;
    struct trapped_call call = {
        .number = info->si_syscall,
        .arguments = {registers->rdi, registers->rsi, registers->rdx, registers->r10, registers->r8, registers->r9},
        .context = context,
        .result = 0,
    };
    enum verdict verdict;

    if (info->si_code != BY_DISPATCH) {
        pass_signal(number, info, context);
        return;
    }
    calls_made++;
    verdict = info->si_arch == AUDIT_ARCH_X86_64 ? judge_call(&call) : HOLD_OTHER;
    if (report)
        scout_on(verdict, &call);
    else if (verdict == PASS || verdict == ANSWERED)
        verdict = look_ahead(&call, verdict);
    if (verdict == PASS)
        registers->rax = make_call(&call);
    else if (verdict == ANSWERED)
        registers->rax = call.result;
    else {
        registers->rip = beginning_of_call(registers->rip);     /* to be made again; rax is its number still */
        settle_signals();
        holder(verdict == HOLD_IO ? STAGE_AT_IO : STAGE_AT_OTHER, call.number, calls_made - 1);
        if (sigsys_blocked)
            context->uc_sigmask |= SIGNAL_BIT(SIGSYS);
    }
}

/* Returns 0 if this kernel or processor cannot, or memory may not be changed so. */
static int start_dispatch(stage_holder *hold)
{
    struct signal_action action = {
        .handler = (unsigned long)handle_trap,
        .flags = SA_SIGINFO | SA_NODEFER | SA_RESTORER | SA_RESTART,
        .restorer = stage_restorer,
    };

    holder = hold;
    CALL(__NR_rt_sigaction, SIGSYS, &action, &program_action, 8);
    if (may_change_code() && trap_calls()) {
        trap_clocks();
        return 1;
    }
    CALL(__NR_rt_sigaction, SIGSYS, &program_action, 0, 8);
    return 0;
}

#else

static inline int start_dispatch(stage_holder *hold)
{
    (void)hold;
    return 0;
}

#endif
#endif
