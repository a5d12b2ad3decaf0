/* The executable file of the command: a process with a name of its own, with Python in it.
 *
 * Theory. The executable file of a script's process is the interpreter, and programs that look for a daemon by its
 * file (start-stop-daemon --exec, killall and pidof with a path) do not find it. So the command is this program. It
 * opens the interpreter's library and runs `fastinetd` in it as `python -E -P -m fastinetd` would: variables
 * PYTHON... are for servers, not for the daemon. The interpreter is, in a virtual environment, the one beside this
 * file, else the one with which this file was built. The library is the interpreter's, at the path from the
 * interpreter that it had at the build. Where there is none the interpreter itself is executed, with the name of this
 * process as an option (system/own_process.py).
 *
 * Rules of this file:
 *  - environment, arguments, descriptors, signals and memory limits are left as they are;
 *  - no path is searched: neither PATH nor the linker's folders decide what root runs. Without /proc the path of this
 *    file is AT_EXECFN, which its caller chooses, but not if this process has gained privileges (AT_SECURE);
 *  - an error is one line on standard error, with the remedy, and status 1.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

#include "launcher_limits.h"

#define MODULE "fastinetd"

/* The functions that are taken from the library; Python.h has their types. */
#define FUNCTIONS(USE) \
    USE(PyPreConfig_InitPythonConfig) USE(Py_PreInitialize) USE(PyConfig_InitPythonConfig) \
    USE(PyConfig_SetBytesArgv) USE(PyConfig_SetBytesString) USE(PyConfig_Clear) USE(PyStatus_Exception) \
    USE(Py_InitializeFromConfig) USE(Py_RunMain)

static struct {
#define MEMBER(name) __typeof__(name) *name;
    FUNCTIONS(MEMBER)
} python;

static void fail_with(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void fail_with(const char *format, ...)
{
    va_list more;

    fputs(MODULE ": ", stderr);
    va_start(more, format);
    vfprintf(stderr, format, more);
    va_end(more);
    fputc('\n', stderr);
    exit(1);
}

/* Cut a path to that of its folder. */
static void to_folder(char *absolute_path)
{
    char *slash = strrchr(absolute_path, '/');

    slash[slash == absolute_path] = 0;
}

/* Find the path of this file. Returns whether it is known. */
static int find_itself(char path[PATH_MAX])
{
    ssize_t size = readlink("/proc/self/exe", path, PATH_MAX - 1);

    if (size > 0 && *path == '/') {
        path[size] = 0;
        return 1;
    }
    return !getauxval(AT_SECURE) && getauxval(AT_EXECFN) && realpath((const char *)getauxval(AT_EXECFN), path);
}

/* Find the path of the interpreter. */
static void find_interpreter(char interpreter[PATH_MAX])
{
    char folder[PATH_MAX], settings[PATH_MAX];

    if (find_itself(folder)) {
        to_folder(folder);
        if (snprintf(settings, PATH_MAX, "%s/../pyvenv.cfg", folder) < PATH_MAX && access(settings, F_OK) == 0 &&
            snprintf(interpreter, PATH_MAX, "%s/" PYTHON_NAME, folder) < PATH_MAX)
            return;
    }
    strcpy(interpreter, PYTHON_FILE);
}

/* Open the interpreter's library and find its functions. Returns whether there is a library. */
static int open_library(const char *interpreter)
{
    char library[PATH_MAX], real[PATH_MAX];
    void *opened;

    if (!*PYTHON_LIBRARY || !realpath(interpreter, real))
        return 0;
    to_folder(real);
    if (snprintf(library, sizeof library, "%s/" PYTHON_LIBRARY, real) >= (int)sizeof library ||
        access(library, R_OK) < 0)
        return 0;
    opened = dlopen(library, RTLD_NOW | RTLD_GLOBAL);   /* extension modules look for its functions in the process */
    if (!opened)
        fail_with("cannot open its interpreter: %s", dlerror());
#define FIND(name) \
    if (!(python.name = (__typeof__(python.name))dlsym(opened, #name))) \
        fail_with("%s is not " PYTHON_NAME ": %s; install fastinetd again", library, dlerror());
    FUNCTIONS(FIND)
    return 1;
}

static void check_status(PyStatus status)
{
    if (python.PyStatus_Exception(status))
        fail_with("Python cannot start: %s", status.err_msg ? status.err_msg : "it does not say why");
}

/* Run the interpreter in this process. Returns its exit status. */
static int run_here(const char *interpreter, int argc, char **argv)
{
    PyPreConfig first;
    PyConfig config;

    python.PyPreConfig_InitPythonConfig(&first);
    first.use_environment = 0;
    first.parse_argv = 0;
    check_status(python.Py_PreInitialize(&first));
    python.PyConfig_InitPythonConfig(&config);
    config.use_environment = 0;
    config.parse_argv = 0;
    config.safe_path = 1;               /* modules are not looked for in the current folder */
    if (getauxval(AT_SECURE))
        config.user_site_directory = 0;     /* else the caller's HOME would choose modules */
    check_status(python.PyConfig_SetBytesString(&config, &config.program_name, interpreter));
    check_status(python.PyConfig_SetBytesString(&config, &config.executable, interpreter));
    check_status(python.PyConfig_SetBytesString(&config, &config.run_module, MODULE));
    check_status(python.PyConfig_SetBytesArgv(&config, argc, argv));
    check_status(python.Py_InitializeFromConfig(&config));
    python.PyConfig_Clear(&config);
    return python.Py_RunMain();
}

/* Execute the interpreter in place of this program. */
static void __attribute__((noreturn)) execute_interpreter(char *interpreter, int argc, char **argv)
{
    char name[16] = "", option[sizeof MODULE "=" + sizeof name];
    char *start[] = {interpreter, "-E", "-P", "-X", option, "-m", MODULE};
    size_t count = sizeof start / sizeof *start;
    char **arguments = calloc(count + argc + 1, sizeof *arguments);

    if (!arguments)
        fail_with("out of memory");
    prctl(PR_GET_NAME, name);
    snprintf(option, sizeof option, MODULE "=%s", name);
    memcpy(arguments, start, sizeof start);
    for (int i = 1; i < argc; i++)
        arguments[count++] = argv[i];
    execv(interpreter, arguments);
    fail_with("cannot execute %s: %s; install fastinetd again, with the Python that is to run it", interpreter,
         strerror(errno));
}

/* Not a part of main: its arrays may be larger than the stack, which main checks first. */
static int __attribute__((noinline)) start_python(int argc, char **argv)
{
    char interpreter[PATH_MAX];

    find_interpreter(interpreter);
    if (open_library(interpreter))
        return run_here(interpreter, argc, argv);
    execute_interpreter(interpreter, argc, argv);
}

int main(int argc, char **argv)
{
    if (getuid() != geteuid() || getgid() != getegid())
        fail_with("it is set-uid or set-gid, which nobody can rely on; chmod ug-s it, and start it as the user it is "
                  "to be");
    if (limited_to_too_little(MODULE))
        return 1;
    return start_python(argc, argv);
}
