/* The program every server starts: one line out, and gone. Dynamically linked, like real servers.
 * With an argument it writes that instead, so that a reload can be seen from outside. */
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "hello";
    char line[80];
    size_t length = strnlen(word, sizeof line - 1);
    memcpy(line, word, length);
    line[length++] = '\n';
    return write(1, line, length) != (ssize_t)length;
}
