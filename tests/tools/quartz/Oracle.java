// What Quartz itself says: each line of standard input is `expression TAB zone TAB from` (seconds since 1970); the answer is the
// next three fire times in seconds, or `refused` with Quartz's words, or `never`.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Date;
import java.util.TimeZone;
import org.quartz.CronExpression;

public class Oracle {
    static final int TIMES = 3;

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        StringBuilder out = new StringBuilder();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] parts = line.split("\t");
            out.append(answer(parts[0], parts[1], Long.parseLong(parts[2]))).append('\n');
        }
        System.out.print(out);
    }

    static String answer(String expression, String zone, long from) {
        CronExpression cron;
        try {
            cron = new CronExpression(expression);
        } catch (Exception error) {
            return "refused " + String.valueOf(error.getMessage()).replaceAll("\\s+", " ");
        }
        cron.setTimeZone(TimeZone.getTimeZone(zone));
        StringBuilder times = new StringBuilder();
        Date at = new Date(from * 1000);
        for (int n = 0; n < TIMES; n++) {
            try {
                at = cron.getNextValidTimeAfter(at);
            } catch (RuntimeException error) {
                return "failed " + error;
            }
            if (at == null) {
                break;
            }
            times.append(times.length() == 0 ? "" : " ").append(at.getTime() / 1000);
        }
        return times.length() == 0 ? "never" : times.toString();
    }
}
