CREATE TABLE public.people (id bigint, name text);
COPY public.people (id, name) FROM stdin;
1	Ada\\Lovelace
2	\N
\.
