//! Go templates and Jinja, for whoever needs them.
