"""The control of the live service, without Ray: books, scheduler, dispatcher."""
