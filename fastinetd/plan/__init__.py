"""From a Config to a Plan: what each service needs of this machine, looked up."""
