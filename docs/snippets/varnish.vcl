vcl 4.1;

backend shop {
    .host = "127.0.0.1";
    .port = "8000";
}

sub vcl_recv {
    if (req.url ~ "^/stream") {
        return (pass);
    }
}

sub vcl_backend_response {
    if (beresp.http.Content-Type ~ "^text/event-stream") {
        set beresp.do_gzip = false;
    }
}

sub vcl_backend_error {
    # While the application restarts. An EventSource gives up for good at any status but 200.
    if (bereq.url ~ "^/stream") {
        set beresp.status = 200;
        set beresp.http.Content-Type = "text/event-stream";
        set beresp.http.Cache-Control = "no-store";
        synthetic({"retry: 2000

"});
        return (deliver);
    }
}
