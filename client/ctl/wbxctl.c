/* wbxctl: asks the wbx daemon what waits, how delivery goes and what was refused. The commands
 * stand in commands.c. */
#include "client/ctl/call.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	static struct call call;
	int code = call_init(&call, argc, argv);

	if (code == CODE_OK && call_has(&call, OPT_VERSION))
		(void)buf_add_text(&call.out, "wbxctl " WBX_VERSION "\n"); /* call_print() looks */
	else if (code == CODE_OK)
		code = call.command->run(&call);
	if (call_print(&call) != CODE_OK && code == CODE_OK)
		code = CODE_ERROR;
	call_done(&call);
	return code;
}
