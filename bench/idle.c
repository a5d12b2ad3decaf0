/* A server that is alive and does nothing: says "idle", then sleeps in read() until its client
 * closes. Linked statically: thousands of these run at once and only their number should matter. */
#include <unistd.h>

int main(void)
{
    char byte;
    if (write(1, "idle\n", 5) != 5)
        return 1;
    while (read(0, &byte, 1) > 0)
        ;
    return 0;
}
